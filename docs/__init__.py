"""The pages of the documentation. `zoo help TOPIC` prints them."""
