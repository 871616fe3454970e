#!/bin/sh
# Takes out of an api's virtual environment what an api never uses: slim-api.sh /venv
set -eu
cd "$1"/lib/python3*/site-packages

# Of imagecodecs' hundred codecs images/ uses these (images/codec/forkserver.py); they stay, with the libraries that they load.
codecs=$(echo imagecodecs/_png.* imagecodecs/_tiff.* imagecodecs/_deflate.* imagecodecs/_avif.* imagecodecs/_jpegxl.* \
    imagecodecs/_brotli.* imagecodecs/_shared*)
libraries=$(ldd $codecs | sed -n 's|.*=> .*/\(imagecodecs\.libs/[^ ]*\) .*|\1|p' | sort -u)
tar -cf codecs.tar $codecs $libraries
rm -r imagecodecs/_*.so imagecodecs.libs
tar -xf codecs.tar
rm codecs.tar

# What is for those who compile against numpy, for type checkers, and tests.
rm -rf numpy/f2py numpy/distutils numpy/_core/include numpy/_core/lib numpy/random/lib
find . -depth -type d \( -name __pycache__ -o -name tests \) -exec rm -rf {} +
find . \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete

"$1"/bin/python -c 'import imagecodecs as i
assert all(codec.available for codec in (i.PNG, i.TIFF, i.DEFLATE, i.AVIF, i.JPEGXL, i.BROTLI))'
