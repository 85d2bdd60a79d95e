"""Walk-forward: search inside each train window, test the winner once on the next."""
