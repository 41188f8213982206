/* `serve-floor FILE` sends FILE over ten loopback links at once, with plain read and write, to a process
   that drops it. Prints the seconds, and the CPU seconds of the sender. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LINKS = 10, BLOCK = 512 * 1024 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void drop_all(const struct sockaddr_in *address) {
  static char block[BLOCK];
  struct pollfd links[LINKS];
  for (int i = 0; i < LINKS; i++) {
    links[i].fd = socket(AF_INET, SOCK_STREAM, 0);
    links[i].events = POLLIN;
    if (connect(links[i].fd, (const void *)address, sizeof *address) != 0) fail("connect");
  }
  for (int left = LINKS; left > 0;) {
    poll(links, LINKS, -1);
    for (int i = 0; i < LINKS; i++) {
      if (links[i].fd < 0 || links[i].revents == 0) continue;
      if (recv(links[i].fd, block, BLOCK, 0) > 0) continue;
      close(links[i].fd);
      links[i].fd = -1;
      left--;
    }
  }
  exit(0);
}

int main(int argc, char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  int file = argc > 1 ? open(argv[1], O_RDONLY) : -1;
  if (file < 0) fail("the file");
  off_t bytes = lseek(file, 0, SEEK_END);
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (void *)&address, length) != 0 || listen(listener, LINKS) != 0) fail("listen");
  getsockname(listener, (void *)&address, &length);
  struct timespec began, ended;
  clock_gettime(CLOCK_MONOTONIC, &began);
  if (fork() == 0) drop_all(&address);
  static char block[BLOCK];
  off_t sent[LINKS] = {0};
  struct pollfd links[LINKS];
  for (int i = 0; i < LINKS; i++) {
    links[i].fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    links[i].events = POLLOUT;
  }
  for (int left = LINKS; left > 0;) {
    poll(links, LINKS, -1);
    for (int i = 0; i < LINKS; i++) {
      if (links[i].fd < 0 || links[i].revents == 0) continue;
      ssize_t count = pread(file, block, BLOCK, sent[i]);
      ssize_t taken = write(links[i].fd, block, count > 0 ? count : 0);
      if (taken > 0) sent[i] += taken;
      if (sent[i] < bytes) continue;
      close(links[i].fd);
      links[i].fd = -1;
      left--;
    }
  }
  wait(NULL);
  clock_gettime(CLOCK_MONOTONIC, &ended);
  struct rusage used;
  getrusage(RUSAGE_SELF, &used);
  printf("%f %f\n", ended.tv_sec - began.tv_sec + (ended.tv_nsec - began.tv_nsec) / 1e9,
         used.ru_utime.tv_sec + used.ru_stime.tv_sec +
             (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
  return 0;
}
