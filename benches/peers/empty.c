/* Empty: measures the cost of any preload library. */
