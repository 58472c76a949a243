"""The commands: each a page that reads its arguments, calls one function below it and prints what came back."""
