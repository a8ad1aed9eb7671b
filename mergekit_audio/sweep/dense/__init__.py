"""Features at any λ, interpolated between a few λ where they were extracted."""
