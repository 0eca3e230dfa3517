"""What the notification service keeps."""
