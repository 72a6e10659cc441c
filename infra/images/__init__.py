"""Container images of the platform: what they are made of and how they are built."""
