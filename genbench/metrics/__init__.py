"""What runs are judged by."""
