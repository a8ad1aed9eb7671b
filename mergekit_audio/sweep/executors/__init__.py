"""Where the points of a sweep are computed: in this process, in others, or on many machines."""
