"""A ledger as an Optuna study in memory: figures, importance, an export that optuna-dashboard opens."""
