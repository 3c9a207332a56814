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

set(CPACK_GENERATOR DEB)
set(CPACK_STRIP_FILES ON)
set(CPACK_PACKAGE_CONTACT "the echo-server authors <noreply@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "blocking TCP echo server")
set(CPACK_PACKAGE_DESCRIPTION
  "Sends back to each TCP client every byte that it sends (RFC 862). With a\n\
systemd unit that runs it without root, and a log that shows what it does.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${packaging}/debian/postinst ${packaging}/debian/prerm ${packaging}/debian/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
# Read by cpack once for each kind of package.
set(CPACK_PROJECT_CONFIG_FILE ${packaging}/debian/cpack.cmake)
include(CPack)
