import subprocess
import sys


def test_an_api_process_imports_no_decoder():
    code = "import sys, api.app; print(*{'PIL', 'imagecodecs', 'simplejpeg', 'torch', 'cv2'} & set(sys.modules))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
