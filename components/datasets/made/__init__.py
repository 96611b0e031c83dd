"""Data that Reprise makes itself: tasks that measure memory, and stand-ins for data that need a licence."""
