# Rewrites the project's changelog in Debian's format, with lines of at most 80 columns.

function finish_item() {
  if (item != "") {
    line = "  *"
    count = split(item, words, " ")
    for (i = 1; i <= count; i++) {
      if (length(line " " words[i]) > 80) {
        print line
        line = "   "
      }
      line = line " " words[i]
    }
    print line
  }
  item = ""
}

function finish_version() {
  finish_item()
  if (date != "")
    printf "\n -- %s  %s\n\n", maintainer, date
}

/^## / {
  finish_version()
  command = "LC_ALL=C date -u -R -d " $4
  command | getline date
  close(command)
  printf "echo-server (%s) stable; urgency=medium\n\n", $2
}
/^### / {
  finish_item()
  printf "  [ %s ]\n", substr($0, 5)
}
/^- / {
  finish_item()
  item = substr($0, 3)
}
/^  / { item = item " " $0 }
END { finish_version() }
