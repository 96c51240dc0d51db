# SPDX-License-Identifier: Apache-2.0
# Kernel sets.

def kernel_set():
    """Return the name of the kernel set in use, for example "x86-64-v3+sha"."""
    return atlas_kernel_set().decode()


def kernel_sets():
    """Return the names of the kernel sets compiled into the library, best first."""
    return names(atlas_kernel_set_name)


def kernel_set_supported(str name not None, /):
    """Return whether this CPU can run the kernel set; False for a name that is not compiled in."""
    return name in kernel_sets() and atlas_kernel_set_supported(name.encode())


def select_kernel_set(str name not None, /):
    """Use another kernel set from now on, in all threads: same results, different speed.

    Raises StateError where it is not compiled in or this CPU cannot run it.
    """
    if name not in kernel_sets():
        raise_error(
            ATLAS_E_STATE, f"kernel set is {name!r}, must be one of {', '.join(kernel_sets())}"
        )
    if atlas_kernel_set_select(name.encode()) != ATLAS_OK:
        raise_last_error()
