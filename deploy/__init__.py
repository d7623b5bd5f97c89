"""What puts the pages onto other people's machines."""
