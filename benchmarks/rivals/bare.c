/* The limit: a WebSocket server that does nothing but fan out.
 *
 *   bare --port P --coalesce 0|1 [--database URL]
 *
 * One process, epoll, no checks, no limits, no heartbeats. /ws?channel=NAME
 * subscribes. With --coalesce 0 every notification is one write to every
 * subscriber; with 1 everything that one read from PostgreSQL brought is.
 *
 * Built with -DWITH_LIBPQ it listens itself. Without, it writes the names of
 * channels to stdout and reads from stdin, as lines: "L name" when the LISTEN is
 * in force, "N name<TAB>payload" for a notification (rivals/feeder.py does it).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef WITH_LIBPQ
#include <libpq-fe.h>
#endif

enum {
    REQUEST_BYTES = 4096,
    READ_BYTES = 64 * 1024,
    NAME_BYTES = 64,
    BUCKETS = 16384,
    MAX_EVENTS = 1024,
    /* The same as pgbridge's default. */
    SEND_BUFFER_BYTES = 256 * 1024,
    /* Reads of one turn, so that a flood is handed on in time. */
    MAX_READ_ROUNDS = 16,
    MAX_FILES = 1 << 20,
};

struct bytes {
    char *data;
    size_t size;
    size_t capacity;
};

struct channel {
    char name[NAME_BYTES];
    int listening;
    struct connection **members;
    int count;
    int capacity;
    /* Frames of the present read; only when they are written together. */
    struct bytes batch;
    struct channel *next_in_bucket;
    struct channel *next_with_batch;
};

struct connection {
    int fd;
    /* Place among its channel's members. */
    int place;
    struct channel *channel;
    /* The request while it is not whole; then what the socket did not take. */
    struct bytes pending;
};

static int coalesce;
static int epoll_fd, listen_fd, source_fd;
static struct connection **by_fd;
static struct channel *buckets[BUCKETS];
static struct channel *with_batch;
static struct bytes scratch;

static void *checked(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "bare: out of memory\n");
        exit(1);
    }
    return memory;
}

static void append(struct bytes *to, const void *data, size_t size)
{
    if (to->size + size > to->capacity) {
        to->capacity = (to->size + size) * 2;
        to->data = checked(realloc(to->data, to->capacity));
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void release(struct bytes *bytes)
{
    free(bytes->data);
    memset(bytes, 0, sizeof *bytes);
}

/* SHA-1 (RFC 3174) and base64, for the handshake. */

static uint32_t rotate(uint32_t value, int by)
{
    return value << by | value >> (32 - by);
}

static void sha1_block(uint32_t *h, const unsigned char *block)
{
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
               (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        uint32_t sum = rotate(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = sum;
    }
    h[0] += a, h[1] += b, h[2] += c, h[3] += d, h[4] += e;
}

/* `text` has at most 119 bytes, so that it fits two blocks. */
static void sha1(const char *text, size_t size, unsigned char *digest)
{
    unsigned char blocks[128] = {0};
    uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    size_t total = size < 56 ? 64 : 128;
    memcpy(blocks, text, size);
    blocks[size] = 0x80;
    blocks[total - 2] = (unsigned char)(size * 8 >> 8);
    blocks[total - 1] = (unsigned char)(size * 8);
    for (size_t at = 0; at < total; at += 64)
        sha1_block(h, blocks + at);
    for (int i = 0; i < 20; i++)
        digest[i] = (unsigned char)(h[i / 4] >> (24 - 8 * (i % 4)));
}

/* Base64 of a SHA-1 digest: 28 characters. */
static void base64(const unsigned char *digest, char *text)
{
    static const char letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char padded[21] = {0};
    memcpy(padded, digest, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t three = (uint32_t)padded[3 * i] << 16 |
                         (uint32_t)padded[3 * i + 1] << 8 | padded[3 * i + 2];
        for (int j = 0; j < 4; j++)
            text[4 * i + j] = letters[three >> (18 - 6 * j) & 63];
    }
    text[27] = '=';
    text[28] = 0;
}

/* Connections. */

static void watch(struct connection *c, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = c->fd};
    epoll_ctl(epoll_fd, operation, c->fd, &event);
}

static void end(struct connection *c)
{
    struct channel *channel = c->channel;
    if (channel) {
        struct connection *last = channel->members[--channel->count];
        channel->members[c->place] = last;
        last->place = c->place;
    }
    by_fd[c->fd] = NULL;
    close(c->fd);
    release(&c->pending);
    free(c);
}

static void deliver(struct connection *c, const char *data, size_t size)
{
    size_t sent = 0;
    if (c->pending.size == 0) {
        ssize_t taken = send(c->fd, data, size, MSG_NOSIGNAL);
        if (taken < 0 && errno != EAGAIN) {
            end(c);
            return;
        }
        sent = taken < 0 ? 0 : (size_t)taken;
        if (sent == size)
            return;
        watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
    }
    append(&c->pending, data + sent, size - sent);
}

static void flush(struct connection *c)
{
    ssize_t taken = send(c->fd, c->pending.data, c->pending.size, MSG_NOSIGNAL);
    if (taken < 0) {
        if (errno != EAGAIN)
            end(c);
        return;
    }
    c->pending.size -= (size_t)taken;
    memmove(c->pending.data, c->pending.data + taken, c->pending.size);
    if (c->pending.size == 0) {
        release(&c->pending);
        watch(c, EPOLL_CTL_MOD, EPOLLIN);
    }
}

/* Append the head of a text frame whose payload has `size` bytes. */
static void append_head(struct bytes *to, size_t size)
{
    unsigned char head[10] = {0x81};
    size_t used = 2;
    if (size < 126) {
        head[1] = (unsigned char)size;
    } else {
        int field = size < 1 << 16 ? 2 : 8;
        head[1] = field == 2 ? 126 : 127;
        for (int i = 0; i < field; i++)
            head[used++] = (unsigned char)(size >> 8 * (field - 1 - i));
    }
    append(to, head, used);
}

/* Backwards: one that ends moves the last member into its place. */
static void deliver_to_all(struct channel *channel, const char *data, size_t size)
{
    for (int i = channel->count - 1; i >= 0; i--)
        deliver(channel->members[i], data, size);
}

/* Channels. */

static struct channel *find_channel(const char *name)
{
    uint32_t hash = 2166136261u;
    for (const char *at = name; *at; at++)
        hash = (hash ^ (unsigned char)*at) * 16777619u;
    struct channel **bucket = &buckets[hash % BUCKETS];
    for (struct channel *found = *bucket; found; found = found->next_in_bucket)
        if (strcmp(found->name, name) == 0)
            return found;
    struct channel *made = checked(calloc(1, sizeof *made));
    snprintf(made->name, sizeof made->name, "%s", name);
    made->next_in_bucket = *bucket;
    *bucket = made;
    return made;
}

static void take_notification(const char *name, const char *payload)
{
    struct channel *channel = find_channel(name);
    char head[NAME_BYTES + 64];
    int head_size =
        snprintf(head, sizeof head,
                 "{\"type\":\"notification\",\"channel\":\"%s\",\"data\":", name);
    size_t size = strlen(payload);
    struct bytes *to = coalesce ? &channel->batch : &scratch;
    if (coalesce && to->size == 0) {
        channel->next_with_batch = with_batch;
        with_batch = channel;
    }
    append_head(to, (size_t)head_size + size + 1);
    append(to, head, (size_t)head_size);
    append(to, payload, size);
    append(to, "}", 1);
    if (!coalesce) {
        deliver_to_all(channel, scratch.data, scratch.size);
        scratch.size = 0;
    }
}

static void deliver_batches(void)
{
    for (; with_batch; with_batch = with_batch->next_with_batch) {
        struct bytes *batch = &with_batch->batch;
        deliver_to_all(with_batch, batch->data, batch->size);
        batch->size = 0;
    }
}

static void say_subscribed(struct connection *c)
{
    char text[NAME_BYTES + 64];
    int size = snprintf(text, sizeof text, "{\"type\":\"subscribed\",\"channel\":\"%s\"}",
                        c->channel->name);
    struct bytes frame = {0};
    append_head(&frame, (size_t)size);
    append(&frame, text, (size_t)size);
    deliver(c, frame.data, frame.size);
    release(&frame);
}

static void in_force(struct channel *channel)
{
    channel->listening = 1;
    for (int i = channel->count - 1; i >= 0; i--)
        say_subscribed(channel->members[i]);
}

/* PostgreSQL. */

static int more_to_read(int fd)
{
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0) > 0;
}

#ifdef WITH_LIBPQ

static PGconn *database;

static void check(int good)
{
    if (!good) {
        fprintf(stderr, "bare: %s", PQerrorMessage(database));
        exit(1);
    }
}

static void take_notifications(void)
{
    PGnotify *found;
    while ((found = PQnotifies(database))) {
        take_notification(found->relname, found->extra);
        PQfreemem(found);
    }
}

static void read_source(void)
{
    for (int i = 0; i < MAX_READ_ROUNDS && more_to_read(source_fd); i++) {
        check(PQconsumeInput(database));
        take_notifications();
    }
    deliver_batches();
}

static void open_source(const char *url)
{
    database = PQconnectdb(url);
    check(PQstatus(database) == CONNECTION_OK);
    source_fd = PQsocket(database);
}

static void listen_to(struct channel *channel)
{
    char query[2 * NAME_BYTES + 16];
    char *quoted = PQescapeIdentifier(database, channel->name, strlen(channel->name));
    snprintf(query, sizeof query, "LISTEN %s", quoted);
    PQfreemem(quoted);
    PGresult *result = PQexec(database, query);
    check(PQresultStatus(result) == PGRES_COMMAND_OK);
    PQclear(result);
    in_force(channel);
    take_notifications();
    deliver_batches();
}

#else

static void take_line(char *line)
{
    char *name = line + 2, *tab = strchr(line, '\t');
    if (line[0] == 'L') {
        in_force(find_channel(name));
    } else if (tab) {
        *tab = 0;
        take_notification(name, tab + 1);
    }
}

static void read_source(void)
{
    static struct bytes input;
    static char data[READ_BYTES];
    for (int i = 0; i < MAX_READ_ROUNDS && more_to_read(source_fd); i++) {
        ssize_t got = read(source_fd, data, sizeof data);
        if (got <= 0)
            exit(got < 0);
        append(&input, data, (size_t)got);
        char *start = input.data, *stop;
        while ((stop = memchr(start, '\n', input.size - (size_t)(start - input.data)))) {
            *stop = 0;
            take_line(start);
            start = stop + 1;
        }
        input.size -= (size_t)(start - input.data);
        memmove(input.data, start, input.size);
    }
    deliver_batches();
}

static void open_source(const char *url)
{
    (void)url;
    source_fd = STDIN_FILENO;
}

static void listen_to(struct channel *channel)
{
    printf("%s\n", channel->name);
    fflush(stdout);
}

#endif

/* Requests. */

static void join(struct connection *c, const char *name)
{
    struct channel *channel = find_channel(name);
    if (channel->count == channel->capacity) {
        channel->capacity = channel->capacity ? channel->capacity * 2 : 4;
        channel->members = checked(realloc(
            channel->members, sizeof *channel->members * (size_t)channel->capacity));
    }
    c->channel = channel;
    c->place = channel->count;
    channel->members[channel->count++] = c;
    if (channel->listening)
        say_subscribed(c);
    else if (channel->count == 1)
        listen_to(channel);
}

/* Copy what follows `key` up to one of `stops`; 0 when it is not there. */
static int copy_after(const char *text, const char *key, const char *stops, char *to,
                      size_t size)
{
    const char *at = strcasestr(text, key);
    if (at == NULL)
        return 0;
    at += strlen(key);
    size_t length = strcspn(at, stops);
    if (length == 0 || length >= size)
        return 0;
    memcpy(to, at, length);
    to[length] = 0;
    return 1;
}

static void answer(struct connection *c)
{
    char name[NAME_BYTES], key[32], joined[80], accept[32], text[256];
    unsigned char digest[20];
    if (!copy_after(c->pending.data, "?channel=", " &", name, sizeof name) ||
        !copy_after(c->pending.data, "Sec-WebSocket-Key: ", "\r\n", key, sizeof key)) {
        end(c);
        return;
    }
    int size = snprintf(joined, sizeof joined,
                        "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
    sha1(joined, (size_t)size, digest);
    base64(digest, accept);
    size = snprintf(text, sizeof text,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                    "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                    accept);
    release(&c->pending);
    if (send(c->fd, text, (size_t)size, MSG_NOSIGNAL) != size)
        end(c);
    else
        join(c, name);
}

static void read_connection(struct connection *c)
{
    static char data[READ_BYTES];
    ssize_t got = read(c->fd, data, sizeof data - 1);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0 || (!c->channel && c->pending.size + (size_t)got > REQUEST_BYTES)) {
        end(c);
        return;
    }
    if (c->channel)
        return; /* pongs; nothing that a client says matters here */
    append(&c->pending, data, (size_t)got);
    append(&c->pending, "", 1);
    c->pending.size--;
    if (strstr(c->pending.data, "\r\n\r\n"))
        answer(c);
}

static void accept_all(void)
{
    int fd;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        int on = 1, size = SEND_BUFFER_BYTES;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
        struct connection *c = checked(calloc(1, sizeof *c));
        c->fd = fd;
        by_fd[fd] = c;
        watch(c, EPOLL_CTL_ADD, EPOLLIN);
    }
}

static void serve(void)
{
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, MAX_EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listen_fd)
                accept_all();
            else if (fd == source_fd)
                read_source();
            else if (by_fd[fd] && by_fd[fd]->channel && events[i].events & EPOLLOUT)
                flush(by_fd[fd]);
            else if (by_fd[fd])
                read_connection(by_fd[fd]);
        }
    }
}

static void open_door(int port)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)port);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listen_fd, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listen_fd, 2048) < 0) {
        perror("bare");
        exit(1);
    }
}

int main(int argc, char **argv)
{
    int port = 0;
    const char *url = "";
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port") == 0)
            port = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--coalesce") == 0)
            coalesce = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--database") == 0)
            url = argv[i + 1];
    }
    if (port <= 0) {
        fprintf(stderr, "bare: --port is missing\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max > MAX_FILES)
        limit.rlim_max = MAX_FILES;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    by_fd = checked(calloc(limit.rlim_max, sizeof(struct connection *)));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    open_source(url);
    open_door(port);
    int fds[] = {listen_fd, source_fd};
    for (int i = 0; i < 2; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fds[i], &event);
    }
    serve();
}
