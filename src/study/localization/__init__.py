"""Chapter 6: in which layer memorization happens."""
