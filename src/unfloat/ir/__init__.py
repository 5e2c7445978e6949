"""The float network (Graph) and the integer instructions: plain data, and a readable print."""
