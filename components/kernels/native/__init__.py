"""The kernels in C++ for the CPU, float32: the same mathematics and conventions as the Python kernels."""
