# What `cmake --install` installs, and what `cpack` packs.

include(GNUInstallDirs)
set(packaging ${CMAKE_CURRENT_LIST_DIR})
install(TARGETS echo-server)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES ${packaging}/echo-server.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${packaging}/echo-server.service DESTINATION lib/systemd/system)
install(FILES ${packaging}/echo-server.bash RENAME echo-server
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${packaging}/_echo-server DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/site-functions)
install(FILES ${packaging}/echo-server.fish
  DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)

# The package's version and summary are those of the project.
set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "the echo-server authors <noreply@example.org>")
set(CPACK_PACKAGE_DESCRIPTION
  "It sends back every byte that a client sends, in order and unchanged, or, on\n\
request, late, in small pieces, only in part, or followed by a connection\n\
reset. It comes with a systemd unit that runs it without root.")
# Installing as root leaves an install_manifest.txt of root's, which cpack could not overwrite. With the name of a
# component (here, of everything that has no other), cpack writes a file of another name.
set(CPACK_INSTALL_CMAKE_PROJECTS "${CMAKE_BINARY_DIR};${PROJECT_NAME};Unspecified;/")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${packaging}/debian/postinst ${packaging}/debian/prerm ${packaging}/debian/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# cpack reads this file once for each kind of package.
set(CPACK_PROJECT_CONFIG_FILE ${packaging}/debian/cpack.cmake)
include(CPack)
