"""`CMakeLists.txt`, the same whatever the folder holds: one library of kernels, one a network, and the golden check."""

CMAKE = """\
# The networks of this folder, the kernels they share, and a program that checks them. Written by Unfloat.
cmake_minimum_required(VERSION 3.13)
project(unfloat_networks C)

set(CMAKE_C_STANDARD 99)
set(CMAKE_C_STANDARD_REQUIRED ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

file(GLOB kernels CONFIGURE_DEPENDS kernels/*/*.c)
add_library(unfloat_kernels STATIC ${kernels})
target_include_directories(unfloat_kernels PUBLIC kernels)
# What a network does not call, the linker drops (-Wl,--gc-sections).
target_compile_options(unfloat_kernels PUBLIC -ffunction-sections -fdata-sections)

add_executable(golden main.c)
target_link_options(golden PRIVATE -Wl,--gc-sections)

file(GLOB networks CONFIGURE_DEPENDS *_weights.c)
foreach(path ${networks})
  get_filename_component(name ${path} NAME_WE)
  string(REGEX REPLACE "_weights$" "" name ${name})
  add_library(${name} STATIC ${name}.c ${name}_weights.c)
  target_include_directories(${name} PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PUBLIC unfloat_kernels)
  target_sources(golden PRIVATE ${name}_golden.c)
  target_link_libraries(golden PRIVATE ${name})
endforeach()

enable_testing()
add_test(NAME golden COMMAND golden)
"""
