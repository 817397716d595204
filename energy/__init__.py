"""Physics and prices that several services need: battery, car, load, sun, clouds, tariff, recorded series."""
