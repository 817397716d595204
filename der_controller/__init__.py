"""Mock DER controllers: batteries and cars that publish at 1 Hz and obey commands safely."""
