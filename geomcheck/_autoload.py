"""What pytest loads by itself. The plugin has its module's name, so a conftest or ``-p`` may name it once more."""

pytest_plugins = ["geomcheck.plugin"]
