# Arranges the installed files as Debian's policy requires.

set(share ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share)
set(doc ${share}/doc/echo-server)
set(changelog ${CMAKE_CURRENT_LIST_DIR}/../../../.github/CHANGELOG.md)

file(RENAME ${doc}/LICENSE ${doc}/copyright)
file(RENAME ${share}/zsh/site-functions ${share}/zsh/vendor-completions)
execute_process(
  COMMAND awk -v "maintainer=${CPACK_PACKAGE_CONTACT}" -f ${CMAKE_CURRENT_LIST_DIR}/changelog.awk
    ${changelog}
  OUTPUT_FILE ${doc}/changelog COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND gzip -9n ${doc}/changelog ${share}/man/man1/echo-server.1
  COMMAND_ERROR_IS_FATAL ANY)
