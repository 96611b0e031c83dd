"""The sampling loop in C++."""
