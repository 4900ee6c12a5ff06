"""What Stepwell's speed, size and memory are, each beside what it is compared with.

``python -m benchmarks`` lists and runs them; README.md in this folder says what each measures.
"""
