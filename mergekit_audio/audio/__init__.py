"""Recordings in: decoded, checked, resampled, and kept in a store by content."""
