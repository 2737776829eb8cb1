/* Messages of docs/protocol.md on libzmq and libmsgpack-c: msgpack in and out, connections, asking with repeats. */
#include <msgpack.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

enum { REPEAT_MS = 500, SILENCE_MS = 3000, DEADLINE_MS = 30000 };
enum { ENDPOINT_BYTES = 256, WORD_BYTES = 40 };

typedef struct {
    void *socket;
    char endpoint[ENDPOINT_BYTES];
    int64_t heard_ms;
} connection;

typedef struct { /* a message that came; its body lies in `frame` */
    char type[WORD_BYTES];
    uint64_t number;
    msgpack_object body;
    zmq_msg_t frame, bulk;
    msgpack_unpacked unpacked;
} message;

static void *context;
static connection device, unit;
static uint64_t epoch;

static int64_t now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static _Noreturn void fail(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

/* Reading and writing msgpack. */

static const msgpack_object *field(const msgpack_object *map, const char *name) {
    for (uint32_t i = 0; map && map->type == MSGPACK_OBJECT_MAP && i < map->via.map.size; i++) {
        const msgpack_object_kv *entry = &map->via.map.ptr[i];
        if (entry->key.type == MSGPACK_OBJECT_STR && entry->key.via.str.size == strlen(name) &&
            !memcmp(entry->key.via.str.ptr, name, strlen(name)))
            return &entry->val;
    }
    return NULL;
}

static uint64_t whole(const msgpack_object *map, const char *name) {
    const msgpack_object *value = field(map, name);
    return value && value->type == MSGPACK_OBJECT_POSITIVE_INTEGER ? value->via.u64 : 0;
}

static void text(const msgpack_object *map, const char *name, char *into, size_t room) {
    const msgpack_object *value = field(map, name);
    size_t length = value && value->type == MSGPACK_OBJECT_STR ? value->via.str.size : 0;
    if (length >= room) fail(name, "longer than expected");
    if (length) memcpy(into, value->via.str.ptr, length);
    into[length] = 0;
}

static size_t bytes(const msgpack_object *map, const char *name, unsigned char *into, size_t room) {
    const msgpack_object *value = field(map, name);
    if (!value || value->type != MSGPACK_OBJECT_BIN || value->via.bin.size > room) fail(name, "no bytes, or too many");
    memcpy(into, value->via.bin.ptr, value->via.bin.size);
    return value->via.bin.size;
}

static void put_text(msgpack_packer *out, const char *word) { msgpack_pack_str_with_body(out, word, strlen(word)); }

static void put_whole(msgpack_packer *out, const char *name, uint64_t value) {
    put_text(out, name);
    msgpack_pack_uint64(out, value);
}

static void put_word(msgpack_packer *out, const char *name, const char *value) {
    put_text(out, name);
    put_text(out, value);
}

static void put_bytes(msgpack_packer *out, const char *name, const void *value, size_t length) {
    put_text(out, name);
    msgpack_pack_bin_with_body(out, value, length);
}

/* Connections. */

static void dial_socket(connection *to) {
    int no_linger = 0;
    if (to->socket) zmq_close(to->socket);
    to->socket = zmq_socket(context, ZMQ_DEALER);
    zmq_setsockopt(to->socket, ZMQ_LINGER, &no_linger, sizeof no_linger);
    if (zmq_connect(to->socket, to->endpoint)) fail(to->endpoint, zmq_strerror(zmq_errno()));
    to->heard_ms = now_ms();
}

static void send_message(connection *to, const char *type, uint64_t number, const msgpack_sbuffer *body,
                         const void *bulk, size_t bulk_bytes) {
    msgpack_sbuffer head;
    msgpack_packer out;
    msgpack_sbuffer_init(&head);
    msgpack_packer_init(&out, &head, msgpack_sbuffer_write);
    msgpack_pack_map(&out, 6);
    put_whole(&out, "v", 1);
    put_word(&out, "type", type);
    put_whole(&out, "epoch", to == &device ? epoch : 0);
    put_whole(&out, "number", number);
    put_whole(&out, "acked", number); /* one request at a time: those below it have been answered */
    put_text(&out, "body");
    msgpack_sbuffer_write(&head, body->data, body->size);
    int sent = zmq_send(to->socket, head.data, head.size, bulk ? ZMQ_SNDMORE | ZMQ_DONTWAIT : ZMQ_DONTWAIT);
    if (sent >= 0 && bulk) zmq_send(to->socket, bulk, bulk_bytes, ZMQ_DONTWAIT);
    msgpack_sbuffer_destroy(&head);
}

static void release(message *got) {
    msgpack_unpacked_destroy(&got->unpacked);
    zmq_msg_close(&got->frame);
    zmq_msg_close(&got->bulk);
}

/* The next message, if one comes within `wait_ms`; release it when it has been used. */
static bool receive(connection *from, int64_t wait_ms, message *got) {
    zmq_pollitem_t item = {.socket = from->socket, .events = ZMQ_POLLIN};
    if (zmq_poll(&item, 1, wait_ms) <= 0) return false;
    zmq_msg_init(&got->frame);
    zmq_msg_init(&got->bulk);
    zmq_msg_recv(&got->frame, from->socket, 0);
    if (zmq_msg_more(&got->frame)) zmq_msg_recv(&got->bulk, from->socket, 0);
    from->heard_ms = now_ms();
    msgpack_unpacked_init(&got->unpacked);
    if (msgpack_unpack_next(&got->unpacked, zmq_msg_data(&got->frame), zmq_msg_size(&got->frame), NULL) !=
        MSGPACK_UNPACK_SUCCESS)
        fail(from->endpoint, "sent no msgpack");
    const msgpack_object *head = &got->unpacked.data, *body = field(head, "body");
    if (!body) fail(from->endpoint, "sent no envelope");
    text(head, "type", got->type, sizeof got->type);
    got->number = whole(head, "number");
    got->body = *body;
    return true;
}

static void dial(connection *to); /* with HELLO where that is due */

/* What a message means for the request `number`. */
typedef enum { OTHER, ANSWER, REPEAT, UNKNOWN_CONNECTION } meaning;

static meaning judge(const char *type, uint64_t number, const message *got, bool *accepted, int64_t *repeat_ms) {
    if (!strcmp(got->type, "refused")) {
        char code[WORD_BYTES];
        text(&got->body, "code", code, sizeof code);
        if (number && (!strcmp(code, "no_session") || !strcmp(code, "epoch"))) return UNKNOWN_CONNECTION;
        if (!strcmp(type, "bye")) return ANSWER; /* the session has ended already */
        bool definite = strcmp(code, "retry") && strcmp(code, "in_use") && strcmp(code, "sessions_full");
        if (definite && strcmp(code, "draining")) fail(type, code);
        *repeat_ms = now_ms() + (int64_t)whole(&got->body, "after_ms");
        return REPEAT;
    }
    if (!number) return !strcmp(got->type, "welcome") || !strcmp(got->type, "bye_done") ? ANSWER : OTHER;
    if (number != got->number && number != whole(&got->body, "number")) return OTHER; /* a probe, or an old answer */
    if (!strcmp(got->type, "os_failure")) {
        char reason[WORD_BYTES];
        text(&got->body, "reason", reason, sizeof reason);
        fail(type, reason);
    }
    if (!strcmp(got->type, "paste_accepted")) *accepted = true;
    bool settles = !strcmp(got->type, "paste_completed") || !strcmp(got->type, "paste_faulted");
    return *accepted && !settles ? OTHER : ANSWER;
}

/* Ask, repeat under the same number, dial anew after silence. Ends the program where no answer comes. */
static void ask(connection *to, const char *type, uint64_t number, const msgpack_sbuffer *body, const void *bulk,
                size_t bulk_bytes, message *got) {
    bool accepted = false;
    for (int64_t until_ms = now_ms() + DEADLINE_MS; now_ms() < until_ms;) {
        send_message(to, type, number, body, bulk, bulk_bytes);
        int64_t repeat_ms = now_ms() + REPEAT_MS, left_ms;
        bool unknown = false;
        while (!unknown && (left_ms = repeat_ms - now_ms()) > 0 && receive(to, left_ms, got)) {
            meaning judged = judge(type, number, got, &accepted, &repeat_ms);
            if (judged == ANSWER) return;
            unknown = judged == UNKNOWN_CONNECTION;
            release(got);
        }
        if (number && (unknown || now_ms() > to->heard_ms + SILENCE_MS)) dial(to);
    }
    fail(type, "no answer");
}
