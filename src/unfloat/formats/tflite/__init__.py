"""TensorFlow Lite: an integer Program as a `.tflite` file with the same bits, and quantized files as Programs."""
