"""What one configuration does: the contract and one folder per trainable."""
