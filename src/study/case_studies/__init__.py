"""Chapter 4: high-influence pairs, and what training without memorized examples costs."""
