/* The least that a receiver can do. `floor PORT FILE read|splice` requests a snapshot with SYNC, reads
 * `$<length>`, writes the snapshot to FILE and waits until it is durable. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHUNK (1 << 20)
#define WINDOW (8 << 20)

static void fail(const char *what) {
  perror(what);
  exit(1);
}

/* Starts writing back the last window, and waits for the write-back of the window before. */
static void keep_going(int file, off_t written) {
  if (written % WINDOW != 0) return;
  sync_file_range(file, written - WINDOW, WINDOW, SYNC_FILE_RANGE_WRITE);
  if (written >= 2 * WINDOW)
    sync_file_range(file, written - 2 * WINDOW, WINDOW,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                        SYNC_FILE_RANGE_WAIT_AFTER);
}

static void by_read(int link, int file, off_t left) {
  static char buffer[CHUNK];
  size_t filled = 0;
  off_t written = 0;
  while (left > 0) {
    size_t want = CHUNK - filled;
    if ((off_t)want > left) want = left;
    ssize_t got = read(link, buffer + filled, want);
    if (got <= 0) fail("read");
    filled += got;
    left -= got;
    if (filled < CHUNK && left > 0) continue;
    for (size_t at = 0; at < filled;) {
      ssize_t put = write(file, buffer + at, filled - at);
      if (put <= 0) fail("write");
      at += put;
    }
    written += filled;
    filled = 0;
    keep_going(file, written);
  }
}

static void by_splice(int link, int file, off_t left) {
  int ends[2];
  if (pipe(ends) != 0) fail("pipe");
  fcntl(ends[1], F_SETPIPE_SZ, CHUNK);
  while (left > 0) {
    ssize_t got = splice(link, NULL, ends[1], NULL, left < CHUNK ? left : CHUNK,
                         SPLICE_F_MOVE | SPLICE_F_MORE);
    if (got <= 0) fail("splice from the link");
    left -= got;
    while (got > 0) {
      ssize_t put = splice(ends[0], NULL, file, NULL, got, SPLICE_F_MOVE | SPLICE_F_MORE);
      if (put <= 0) fail("splice to the file");
      got -= put;
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  int link = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (connect(link, (struct sockaddr *)&to, sizeof to) != 0) fail("connect");
  if (write(link, "SYNC\r\n", 6) != 6) fail("write");
  char line[64];
  size_t length = 0;
  do {
    if (length == sizeof line - 1 || read(link, line + length, 1) != 1) fail("header");
  } while (line[length++] != '\n');
  line[length] = 0;
  int file = open(argv[2], O_CREAT | O_EXCL | O_WRONLY, 0644);
  if (file < 0) fail("open");
  off_t bytes = atoll(line + 1);
  if (strcmp(argv[3], "splice") == 0) by_splice(link, file, bytes);
  else by_read(link, file, bytes);
  if (fdatasync(file) != 0) fail("fdatasync");
  return 0;
}
