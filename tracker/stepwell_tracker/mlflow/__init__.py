"""MLflow's tracking protocol over the same storage; docs/mlflow.md says how far."""
