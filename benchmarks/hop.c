/* The least that a program can do to stand between two connections: wait, receive, send.

   hop splice|copy PORT: forwards what connects to it, to PORT of this machine; prints its own port. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static int other[1024], events, ends[2], copies;
static char bytes[65536];

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(events, EPOLL_CTL_ADD, fd, &event);
}

static void prepare(int fd, int to) {
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(fd, F_SETFL, O_NONBLOCK);
    other[fd] = to;
    watch(fd);
}

static void forward(int fd) {
    ssize_t count = copies ? recv(fd, bytes, sizeof bytes, 0)
                           : splice(fd, NULL, ends[1], NULL, 1 << 20, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    if (count <= 0) {
        epoll_ctl(events, EPOLL_CTL_DEL, fd, NULL);
        shutdown(other[fd], SHUT_WR);
    } else if (copies)
        send(other[fd], bytes, count, 0);
    else
        splice(ends[0], NULL, other[fd], NULL, count, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

int main(int argc, char **argv) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (argc != 3) return 2;
    copies = !strcmp(argv[1], "copy");
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 16) || pipe2(ends, O_NONBLOCK)) return 1;
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    address.sin_port = htons(atoi(argv[2]));
    events = epoll_create1(0);
    watch(listener);
    for (;;) {
        struct epoll_event ready[16];
        int count = epoll_wait(events, ready, 16, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.fd != listener) {
                forward(ready[i].data.fd);
                continue;
            }
            int client = accept(listener, NULL, NULL), server = socket(AF_INET, SOCK_STREAM, 0);
            if (connect(server, (struct sockaddr *)&address, sizeof address)) return 1;
            prepare(client, server);
            prepare(server, client);
        }
    }
}
