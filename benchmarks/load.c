/* The load client: any number of WebSocket subscribers in one process.
 *
 *   load --port P [--path /ws?channel={channel}] [--prefix bench_] [--channels M]
 *        [--dialect native|socketio|raw] [--concurrency C] [--sample K]
 *
 * Connection i subscribes to channel <prefix><i modulo M>. Every payload starts
 * like {"n":17,"t":1234.567890, ...: n counts the notifications of its channel
 * from 0, t is CLOCK_MONOTONIC in seconds when it was published. The numbers
 * are checked on every connection, the time is read on every K-th.
 *
 * Dialects: native waits for a message with "subscribed"; socketio speaks
 * Engine.IO 4 and Socket.IO 5; raw has no messages but the payloads.
 *
 * Commands come on stdin, a line each; every answer is one line of JSON:
 *
 *   open N SECONDS              open N more connections    {"event":"opened",...}
 *   expect TOTAL EACH SECONDS   count anew; at once        {"event":"armed"}
 *                               when TOTAL notifications are here, or the
 *                               seconds are over           {"event":"done",...}
 *   report                      the counts now             {"event":"report",...}
 *   samples                     [n, published, received]   {"event":"samples",...}
 *   quit                        (or the end of stdin)
 *
 * EACH is what every connection should have in the end; 0: not checked.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    /* Bytes of a message that are looked at; n and t stand within them. */
    LOOK_BYTES = 512,
    /* Bytes kept of what a read has cut: an HTTP head, or a frame's start. */
    KEEP_BYTES = 2048,
    READ_BYTES = 256 * 1024,
    MAX_SAMPLES = 1 << 20,
    /* A source address has 28,000 ephemeral ports by default. */
    CONNECTIONS_PER_ADDRESS = 10000,
    MAX_EVENTS = 1024,
};

/* RFC 6455, 1.3: its example, so that no SHA-1 is needed to check the answer. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

enum state { CONNECTING, UPGRADING, OPEN, CLOSED };
enum dialect { NATIVE, SOCKETIO, RAW };

struct connection {
    int fd;
    enum state state;
    int subscribed;
    /* Bytes of the present frame that nobody looks at, still to come. */
    uint64_t skip;
    /* The present frame is a notification, counted when it is whole. */
    int whole_counts;
    double published;
    uint32_t n;
    /* Notifications since the counts were begun: how many, and the next n. */
    uint32_t count;
    uint32_t next;
    unsigned kept;
    double began;
    unsigned char keep[KEEP_BYTES];
};

struct sample {
    uint32_t n;
    double published;
    double received;
};

struct moment {
    double monotonic;
    double realtime;
};

static struct {
    int port;
    const char *path;
    const char *prefix;
    int channels;
    enum dialect dialect;
    int concurrency;
    int sample;
} options = {0, "/ws?channel={channel}", "bench_", 1, NATIVE, 256, 10};

static struct connection *connections;
static int connection_count;
static int epoll_fd;
static unsigned char *buffer;
/* Monotonic seconds of the last read. */
static double now;

/* Of the whole run. */
static struct {
    int open;
    int subscribed;
    int failed; /* never got as far as a 101 */
    int lost;   /* open once, and ended by the other side */
    char first_error[160];
} totals;

/* Of one `open`. */
static struct {
    int active;
    int target;
    int in_flight;
    double began;
    double upgraded;
    double subscribed;
    double deadline;
    double *handshakes;
    int handshake_count;
} opening;

/* Since `expect`. */
static struct {
    int active;
    uint64_t total;
    uint32_t each;
    double deadline;
} expecting;

static struct {
    uint64_t frames;
    uint64_t notifications;
    uint64_t others;
    uint64_t gaps;
    uint64_t pings;
    uint64_t disorder;
    uint64_t bytes;
    uint64_t reads;
    double cpu;
    struct moment first;
    struct moment last;
    int sample_count;
} counts;

static struct sample *samples;

static double seconds(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static double cpu_seconds(void)
{
    return seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static void *checked(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "load: out of memory\n");
        exit(1);
    }
    return memory;
}

static void note_error(const char *format, ...)
{
    if (totals.first_error[0])
        return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(totals.first_error, sizeof totals.first_error, format, arguments);
    va_end(arguments);
    for (char *at = totals.first_error; *at; at++)
        if (*at == '"' || *at == '\\' || (unsigned char)*at < ' ')
            *at = '\'';
}

/* Connections. */

static void watch(int index, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)index};
    epoll_ctl(epoll_fd, operation, connections[index].fd, &event);
}

static void end(struct connection *c, const char *reason, int detail)
{
    if (c->state == CLOSED)
        return;
    if (c->state == OPEN) {
        totals.open--;
        totals.lost++;
        if (c->subscribed)
            totals.subscribed--;
    } else {
        totals.failed++;
        opening.in_flight--;
    }
    note_error("%s (%d)", reason, detail);
    c->state = CLOSED;
    close(c->fd);
    c->fd = -1;
}

static void begin_connection(int index)
{
    struct connection *c = &connections[index];
    c->began = seconds(CLOCK_MONOTONIC);
    c->state = CONNECTING;
    opening.in_flight++;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) {
        end(c, "socket() failed, errno", errno);
        return;
    }
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* Closed with a reset: no TIME_WAIT is left to the next run. */
    struct linger linger = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in address = {.sin_family = AF_INET};
    address.sin_addr.s_addr =
        htonl(INADDR_LOOPBACK + (uint32_t)(index / CONNECTIONS_PER_ADDRESS));
    if (bind(c->fd, (struct sockaddr *)&address, sizeof address) < 0) {
        end(c, "bind() failed, errno", errno);
        return;
    }
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons((uint16_t)options.port);
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0 &&
        errno != EINPROGRESS) {
        end(c, "connect() failed, errno", errno);
        return;
    }
    watch(index, EPOLL_CTL_ADD, EPOLLOUT);
}

static void channel_name(int index, char *name, size_t size)
{
    snprintf(name, size, "%s%d", options.prefix, index % options.channels);
}

static void send_upgrade(int index)
{
    struct connection *c = &connections[index];
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) {
        end(c, "connect() failed, errno", error);
        return;
    }
    char channel[80], path[512], request[1024];
    channel_name(index, channel, sizeof channel);
    const char *place = strstr(options.path, "{channel}");
    if (place)
        snprintf(path, sizeof path, "%.*s%s%s", (int)(place - options.path),
                 options.path, channel, place + strlen("{channel}"));
    else
        snprintf(path, sizeof path, "%s", options.path);
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\n"
                          "Host: 127.0.0.1:%d\r\n"
                          "Upgrade: websocket\r\n"
                          "Connection: Upgrade\r\n"
                          "Sec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: " KEY "\r\n\r\n",
                          path, options.port);
    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length) {
        end(c, "the request was not taken, errno", errno);
        return;
    }
    c->state = UPGRADING;
    watch(index, EPOLL_CTL_MOD, EPOLLIN);
}

/* Client frames are masked; all of ours have at most 125 bytes. */
static void send_frame(struct connection *c, int opcode, const void *data, size_t size)
{
    static uint32_t key = 0x9e3779b9;
    unsigned char frame[6 + 125];
    unsigned char mask[4];
    key = key * 1664525u + 1013904223u;
    memcpy(mask, &key, sizeof mask);
    frame[0] = (unsigned char)(0x80 | opcode);
    frame[1] = (unsigned char)(0x80 | size);
    memcpy(frame + 2, mask, sizeof mask);
    for (size_t i = 0; i < size; i++)
        frame[6 + i] = ((const unsigned char *)data)[i] ^ mask[i % 4];
    if (send(c->fd, frame, size + 6, MSG_NOSIGNAL) != (ssize_t)(size + 6))
        note_error("a frame was not taken (%d)", errno);
}

/* Messages. */

static void became_subscribed(struct connection *c)
{
    if (c->subscribed)
        return;
    c->subscribed = 1;
    totals.subscribed++;
    opening.subscribed = now;
}

static int contains(const unsigned char *text, size_t size, const char *word)
{
    return memmem(text, size, word, strlen(word)) != NULL;
}

/* Find a number by its key; the talk's relay sends JSON inside a JSON string. */
static const char *after_key(const unsigned char *text, size_t size, const char *key)
{
    const char *found = memmem(text, size, key, strlen(key));
    return found ? found + strlen(key) : NULL;
}

static int read_notification(struct connection *c, const unsigned char *text,
                             size_t size, int sampled)
{
    int quoted = options.dialect == SOCKETIO;
    const char *at = after_key(text, size, quoted ? "\\\"n\\\":" : "\"n\":");
    if (at == NULL)
        return 0;
    const char *stop = (const char *)text + size;
    uint32_t n = 0;
    for (; at < stop && *at >= '0' && *at <= '9'; at++)
        n = n * 10 + (uint32_t)(*at - '0');
    c->n = n;
    c->published = 0;
    if (sampled) {
        at = after_key(text, size, quoted ? "\\\"t\\\":" : "\"t\":");
        char digits[40];
        size_t length = at ? (size_t)(stop - at) : 0;
        if (length > sizeof digits - 1)
            length = sizeof digits - 1;
        if (length) {
            memcpy(digits, at, length);
            digits[length] = 0;
            c->published = strtod(digits, NULL);
        }
    }
    return 1;
}

static void count_notification(struct connection *c)
{
    c->whole_counts = 0;
    if (counts.notifications++ == 0) {
        counts.first.monotonic = now;
        counts.first.realtime = seconds(CLOCK_REALTIME);
    }
    counts.last.monotonic = now;
    if (c->n != c->next)
        counts.disorder++;
    c->next = c->n + 1;
    c->count++;
    if (c->published != 0 && counts.sample_count < MAX_SAMPLES) {
        struct sample *sample = &samples[counts.sample_count++];
        sample->n = c->n;
        sample->published = c->published;
        sample->received = now;
    }
}

static void socketio_control(int index, const unsigned char *text, size_t size)
{
    struct connection *c = &connections[index];
    if (text[0] == '0') {
        send_frame(c, 1, "40", 2);
    } else if (text[0] == '2') {
        send_frame(c, 1, "3", 1);
    } else if (size >= 2 && text[0] == '4' && text[1] == '0') {
        char channel[80], request[120];
        channel_name(index, channel, sizeof channel);
        int length =
            snprintf(request, sizeof request, "420[\"subscribe\",\"%s\"]", channel);
        send_frame(c, 1, request, (size_t)length);
    } else if (size >= 2 && text[0] == '4' && text[1] == '3') {
        became_subscribed(c);
    }
}

/* Take a text message of `length` bytes, of which the first `size` are here. */
static void take_text(int index, const unsigned char *text, size_t size)
{
    struct connection *c = &connections[index];
    if (read_notification(c, text, size, index % options.sample == 0)) {
        c->whole_counts = 1;
        return;
    }
    counts.others++;
    if (size == 0)
        return;
    if (options.dialect == SOCKETIO)
        socketio_control(index, text, size);
    else if (contains(text, size, "\"subscribed\""))
        became_subscribed(c);
    else if (contains(text, size, "\"gap\"") || contains(text, size, "\"interrupted\""))
        counts.gaps++;
}

static void take_frame(int index, int opcode, const unsigned char *payload,
                       size_t size, uint64_t length)
{
    struct connection *c = &connections[index];
    counts.frames++;
    switch (opcode) {
    case 1:
        take_text(index, payload, size);
        break;
    case 8:
        end(c, "closed by the server with code",
            length >= 2 ? payload[0] << 8 | payload[1] : 1005);
        break;
    case 9:
        counts.pings++;
        send_frame(c, 10, payload, size);
        break;
    case 10:
        break;
    default:
        end(c, "unexpected opcode", opcode);
    }
}

/* Take frames from `data`; returns how many bytes are done with. */
static size_t take_frames(int index, const unsigned char *data, size_t size)
{
    struct connection *c = &connections[index];
    size_t at = 0;
    while (c->state == OPEN) {
        size_t left = size - at;
        if (c->skip) {
            size_t step = c->skip < left ? (size_t)c->skip : left;
            c->skip -= step;
            at += step;
            if (c->skip)
                break;
            if (c->whole_counts)
                count_notification(c);
            continue;
        }
        if (left < 2)
            break;
        const unsigned char *head = data + at;
        uint64_t length = head[1] & 0x7f;
        size_t head_size = 2;
        if (!(head[0] & 0x80) || head[0] & 0x70 || head[1] & 0x80) {
            end(c, "a frame that is masked, in fragments or reserved", head[0]);
            break;
        }
        if (length >= 126) {
            size_t field = length == 126 ? 2 : 8;
            head_size += field;
            if (left < head_size)
                break;
            length = 0;
            for (size_t i = 0; i < field; i++)
                length = length << 8 | head[2 + i];
        }
        size_t look = length < LOOK_BYTES ? (size_t)length : LOOK_BYTES;
        if (left < head_size + look)
            break;
        take_frame(index, head[0] & 0x0f, head + head_size, look, length);
        at += head_size + look;
        c->skip = length - look;
        if (c->skip == 0 && c->whole_counts && c->state == OPEN)
            count_notification(c);
    }
    return at;
}

/* Take the answer to the upgrade; returns how many bytes it had, 0 if not whole. */
static size_t take_answer(struct connection *c, const unsigned char *data, size_t size)
{
    const unsigned char *stop = memmem(data, size, "\r\n\r\n", 4);
    if (stop == NULL) {
        if (size >= KEEP_BYTES)
            end(c, "the answer's head is too long", (int)size);
        return 0;
    }
    size_t length = (size_t)(stop - data) + 4;
    if (size < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0) {
        end(c, "refused with status", size >= 12 ? atoi((const char *)data + 9) : 0);
        return 0;
    }
    if (!contains(data, length, ACCEPT)) {
        end(c, "a wrong Sec-WebSocket-Accept", 0);
        return 0;
    }
    c->state = OPEN;
    totals.open++;
    opening.in_flight--;
    opening.upgraded = now;
    opening.handshakes[opening.handshake_count++] = now - c->began;
    if (options.dialect == RAW)
        became_subscribed(c);
    return length;
}

static void read_connection(int index)
{
    struct connection *c = &connections[index];
    size_t size = c->kept;
    memcpy(buffer, c->keep, size);
    ssize_t got = read(c->fd, buffer + size, READ_BYTES);
    now = seconds(CLOCK_MONOTONIC);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        end(c, got < 0 ? "read() failed, errno" : "ended by the server",
            got < 0 ? errno : 0);
        return;
    }
    counts.reads++;
    counts.bytes += (uint64_t)got;
    size += (size_t)got;
    size_t done = 0;
    if (c->state == UPGRADING)
        done = take_answer(c, buffer, size);
    if (c->state == OPEN)
        done += take_frames(index, buffer + done, size - done);
    if (c->state == CLOSED)
        return;
    c->kept = (unsigned)(size - done);
    memcpy(c->keep, buffer + done, c->kept);
}

/* Commands and answers. */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Print p50, p90, p99 and max of `values` (seconds), sorting them. */
static void print_percentiles(const char *name, double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    printf("\"%s\":{\"count\":%d", name, count);
    static const struct {
        const char *name;
        double part;
    } marks[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1}};
    for (size_t i = 0; count && i < sizeof marks / sizeof *marks; i++) {
        int place = (int)(marks[i].part * count);
        printf(",\"%s\":%.9f", marks[i].name, values[place < count ? place : count - 1]);
    }
    printf("}");
}

static void print_totals(const char *event)
{
    printf("{\"event\":\"%s\",\"connections\":%d,\"open\":%d,\"subscribed\":%d,"
           "\"failed\":%d,\"lost\":%d,\"error\":\"%s\"",
           event, connection_count, totals.open, totals.subscribed, totals.failed,
           totals.lost, totals.first_error);
}

static void print_line(const char *end_of_object)
{
    printf("%s\n", end_of_object);
    fflush(stdout);
}

static void print_opened(int timed_out)
{
    print_totals("opened");
    printf(",\"timed_out\":%s,\"upgraded_seconds\":%.6f,\"subscribed_seconds\":%.6f,",
           timed_out ? "true" : "false", opening.upgraded - opening.began,
           opening.subscribed - opening.began);
    print_percentiles("handshake", opening.handshakes, opening.handshake_count);
    print_line("}");
}

static void print_counts(const char *event, int timed_out)
{
    uint64_t missing = 0, extra = 0;
    int wrong = 0;
    for (int i = 0; expecting.each && i < connection_count; i++) {
        uint32_t count = connections[i].count;
        wrong += count != expecting.each;
        if (count < expecting.each)
            missing += expecting.each - count;
        else
            extra += count - expecting.each;
    }
    print_totals(event);
    printf(",\"timed_out\":%s,\"frames\":%llu,\"notifications\":%llu,"
           "\"missing\":%llu,\"extra\":%llu,\"wrong_connections\":%d,"
           "\"disorder\":%llu,\"gaps\":%llu,\"others\":%llu,\"pings\":%llu,"
           "\"bytes\":%llu,\"reads\":%llu,\"cpu_seconds\":%.6f,",
           timed_out ? "true" : "false", (unsigned long long)counts.frames,
           (unsigned long long)counts.notifications, (unsigned long long)missing,
           (unsigned long long)extra, wrong, (unsigned long long)counts.disorder,
           (unsigned long long)counts.gaps, (unsigned long long)counts.others,
           (unsigned long long)counts.pings, (unsigned long long)counts.bytes,
           (unsigned long long)counts.reads, cpu_seconds() - counts.cpu);
    printf("\"first\":{\"monotonic\":%.9f,\"realtime\":%.6f},"
           "\"last\":{\"monotonic\":%.9f,\"realtime\":%.6f},",
           counts.first.monotonic, counts.first.realtime, counts.last.monotonic,
           counts.first.realtime + counts.last.monotonic - counts.first.monotonic);
    double *latencies =
        checked(calloc((size_t)counts.sample_count + 1, sizeof *latencies));
    for (int i = 0; i < counts.sample_count; i++)
        latencies[i] = samples[i].received - samples[i].published;
    print_percentiles("latency", latencies, counts.sample_count);
    free(latencies);
    print_line("}");
}

static void print_samples(void)
{
    printf("{\"event\":\"samples\",\"samples\":[");
    for (int i = 0; i < counts.sample_count; i++)
        printf("%s[%u,%.9f,%.9f]", i ? "," : "", samples[i].n, samples[i].published,
               samples[i].received);
    print_line("]}");
}

static void begin_opening(int count, double timeout)
{
    memset(&opening, 0, sizeof opening);
    opening.active = 1;
    opening.target = connection_count + count;
    opening.began = opening.upgraded = opening.subscribed = seconds(CLOCK_MONOTONIC);
    opening.deadline = opening.began + timeout;
    opening.handshakes = checked(calloc((size_t)count + 1, sizeof(double)));
    connections = checked(
        realloc(connections, sizeof *connections * (size_t)(opening.target + 1)));
    memset(connections + connection_count, 0, sizeof *connections * (size_t)count);
}

static void begin_expecting(uint64_t total, uint32_t each, double timeout)
{
    memset(&counts, 0, sizeof counts);
    counts.cpu = cpu_seconds();
    for (int i = 0; i < connection_count; i++)
        connections[i].count = connections[i].next = 0;
    expecting.active = 1;
    expecting.total = total;
    expecting.each = each;
    expecting.deadline = seconds(CLOCK_MONOTONIC) + timeout;
    print_line("{\"event\":\"armed\"}");
}

static void obey(const char *line)
{
    int count;
    unsigned long long total;
    unsigned each;
    double timeout;
    if (sscanf(line, "open %d %lf", &count, &timeout) == 2 && count >= 0)
        begin_opening(count, timeout);
    else if (sscanf(line, "expect %llu %u %lf", &total, &each, &timeout) == 3)
        begin_expecting(total, each, timeout);
    else if (strcmp(line, "report") == 0)
        print_counts("report", 0);
    else if (strcmp(line, "samples") == 0)
        print_samples();
    else if (strcmp(line, "quit") == 0)
        exit(0);
    else
        print_line("{\"event\":\"error\",\"error\":\"unknown command\"}");
}

static void read_commands(void)
{
    static char text[4096];
    static size_t kept;
    ssize_t got = read(STDIN_FILENO, text + kept, sizeof text - kept);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        exit(0);
    kept += (size_t)got;
    char *start = text, *stop;
    while ((stop = memchr(start, '\n', kept - (size_t)(start - text)))) {
        *stop = 0;
        obey(start);
        start = stop + 1;
    }
    kept -= (size_t)(start - text);
    memmove(text, start, kept);
}

/* The loop. */

static void go_on_opening(void)
{
    while (connection_count < opening.target && opening.in_flight < options.concurrency)
        begin_connection(connection_count++);
    int settled = totals.subscribed + totals.failed + totals.lost;
    int all = connection_count == opening.target && settled >= opening.target;
    int late = seconds(CLOCK_MONOTONIC) > opening.deadline;
    if (all || late) {
        opening.active = 0;
        print_opened(!all);
        free(opening.handshakes);
        opening.handshakes = NULL;
        /* What is still under way would write to it. */
        for (int i = 0; !all && i < connection_count; i++)
            if (connections[i].state < OPEN)
                end(&connections[i], "not open in time", 0);
    }
}

static void go_on_expecting(void)
{
    int all = counts.notifications >= expecting.total;
    if (all || seconds(CLOCK_MONOTONIC) > expecting.deadline) {
        expecting.active = 0;
        print_counts("done", !all);
    }
}

static void serve(void)
{
    struct epoll_event events[MAX_EVENTS];
    for (;;) {
        int waiting = opening.active || expecting.active;
        int count = epoll_wait(epoll_fd, events, MAX_EVENTS, waiting ? 50 : -1);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u64 == UINT64_MAX) {
                read_commands();
                continue;
            }
            int index = (int)events[i].data.u64;
            if (connections[index].state == CONNECTING)
                send_upgrade(index);
            else if (connections[index].state != CLOSED)
                read_connection(index);
        }
        if (opening.active)
            go_on_opening();
        if (expecting.active)
            go_on_expecting();
    }
}

static void read_options(int argc, char **argv)
{
    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        if (strcmp(name, "--port") == 0)
            options.port = atoi(value);
        else if (strcmp(name, "--path") == 0)
            options.path = value;
        else if (strcmp(name, "--prefix") == 0)
            options.prefix = value;
        else if (strcmp(name, "--channels") == 0)
            options.channels = atoi(value);
        else if (strcmp(name, "--concurrency") == 0)
            options.concurrency = atoi(value);
        else if (strcmp(name, "--sample") == 0)
            options.sample = atoi(value);
        else if (strcmp(name, "--dialect") == 0)
            options.dialect = strcmp(value, "socketio") == 0 ? SOCKETIO
                              : strcmp(value, "raw") == 0    ? RAW
                                                             : NATIVE;
        else
            options.port = -1;
    }
    if (argc % 2 == 0 || options.port <= 0 || options.channels <= 0 ||
        options.concurrency <= 0 || options.sample <= 0 ||
        strlen(options.prefix) > 50 || strlen(options.path) > 300) {
        fprintf(stderr, "load: bad options; see the top of load.c\n");
        exit(2);
    }
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    buffer = checked(malloc(READ_BYTES + KEEP_BYTES));
    samples = checked(malloc(sizeof *samples * MAX_SAMPLES));
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = UINT64_MAX};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    serve();
}
