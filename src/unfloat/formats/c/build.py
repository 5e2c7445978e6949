"""`CMakeLists.txt`: one library of kernels, one a network, and the golden check, of the files that it names alone."""

from __future__ import annotations

from collections.abc import Sequence

_TEMPLATE = """\
# The networks of this folder, the kernels they share, and a program that checks them. Written by Unfloat.
cmake_minimum_required(VERSION 3.13)
project(unfloat_networks C)

set(CMAKE_C_STANDARD 99)
set(CMAKE_C_STANDARD_REQUIRED ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

add_library(unfloat_kernels STATIC
@KERNELS@
)
target_include_directories(unfloat_kernels PUBLIC kernels)
# What a network does not call, the linker drops (-Wl,--gc-sections).
target_compile_options(unfloat_kernels PUBLIC -ffunction-sections -fdata-sections)

add_executable(golden main.c)
target_link_options(golden PRIVATE -Wl,--gc-sections)

set(networks
@NETWORKS@
)
foreach(name IN LISTS networks)
  add_library(${name} STATIC ${name}.c ${name}_weights.c)
  target_include_directories(${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC unfloat_kernels)
  target_sources(golden PRIVATE ${name}_golden.c)
  target_link_libraries(golden PRIVATE ${name})
endforeach()

enable_testing()
add_test(NAME golden COMMAND golden)
"""


def cmake(networks: Sequence[str], kernels: Sequence[str]) -> str:
    """The text for these networks and these kernels' sources; what else lies in the folder is not built."""
    return _TEMPLATE.replace("@KERNELS@", _lines(kernels)).replace("@NETWORKS@", _lines(networks))


def _lines(names: Sequence[str]) -> str:
    return "\n".join(f"  {name}" for name in names)
