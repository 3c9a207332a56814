# What `cpack` does only for a Debian package.

cmake_policy(VERSION 3.25)
if(CPACK_GENERATOR STREQUAL DEB)
  find_program(FILE_PROGRAM file)
  find_program(SHLIBDEPS_PROGRAM dpkg-shlibdeps)
  if(NOT FILE_PROGRAM OR NOT SHLIBDEPS_PROGRAM)
    message(FATAL_ERROR "To build a Debian package, first run: apt-get install dpkg-dev file")
  endif()
  set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/layout.cmake)
endif()
