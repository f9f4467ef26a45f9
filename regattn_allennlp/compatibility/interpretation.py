"""What explains predictions."""
