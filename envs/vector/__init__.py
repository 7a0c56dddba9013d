"""Vector environments that can be saved and restored, in this process or in workers."""
