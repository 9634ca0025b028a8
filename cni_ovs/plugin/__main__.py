"""`python -m cni_ovs.plugin`, and what PyInstaller freezes."""

from cni_ovs.plugin.main import main

if __name__ == "__main__":
    main()
