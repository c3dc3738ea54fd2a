"""MLflow: what is told to it of every search, and a server of it. The only package that imports mlflow."""
