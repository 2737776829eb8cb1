/* The job of compress_file.py in C, with libzmq, libmsgpack-c and zlib, as docs/protocol.md describes it.
 *
 * cc -o compress_file compress_file.c -lzmq -lmsgpackc -lz     (where the library is called so: -lmsgpack-c)
 * ./compress_file DEVICE INPUT OUTPUT
 */
#include "wire.h"

#include <sys/random.h>
#include <unistd.h>
#include <zlib.h>

enum { COMPRESS_DHT = 2, CC_OK = 0, CC_DATA_LENGTH = 3, CC_TPBC_GREATER = 64 };
enum { PATIENCE_MS = 1000, TOKEN_BYTES = 16, SECRET_BYTES = 32, MARGIN_BYTES = 4096 };
static const char LIMIT_FILE[] = "/sys/devices/vio/ibm,compression-v1/nx_gzip_caps/req_max_processed_len";
static const unsigned char GZIP_HEADER[10] = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff};

typedef struct { /* where a window's pastes go */
    uint32_t window_id;
    unsigned char token[TOKEN_BYTES];
    char endpoint[ENDPOINT_BYTES];
} paste_address;

static uint64_t request_number, paste_number;
static unsigned char incarnation[16], secret[SECRET_BYTES];
static size_t secret_bytes;

/* The partition: a session and its system calls. */

static void dial(connection *to) {
    dial_socket(to);
    if (to != &device) return;
    char name[WORD_BYTES] = "c-";
    for (int i = 0; i < 8; i++) sprintf(name + 2 + 2 * i, "%02x", incarnation[i]);
    msgpack_sbuffer body;
    msgpack_packer out;
    message got;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&out, &body, msgpack_sbuffer_write);
    msgpack_pack_map(&out, 6);
    put_word(&out, "role", "client");
    put_word(&out, "name", name);
    put_bytes(&out, "incarnation", incarnation, sizeof incarnation);
    put_whole(&out, "epoch", epoch); /* not 0: the same process on a new connection */
    put_bytes(&out, "secret", secret, secret_bytes);
    put_whole(&out, "pid", (uint64_t)getpid());
    ask(to, "hello", 0, &body, NULL, 0, &got);
    epoch = whole(&got.body, "epoch");
    secret_bytes = bytes(&got.body, "secret", secret, sizeof secret);
    release(&got);
    msgpack_sbuffer_destroy(&body);
}

/* A system call with one number and one word in its body; either may be absent. */
static void call(const char *type, const char *number_name, uint64_t value, const char *word_name, const char *word,
                 message *got) {
    msgpack_sbuffer body;
    msgpack_packer out;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&out, &body, msgpack_sbuffer_write);
    msgpack_pack_map(&out, !!number_name + !!word_name);
    if (number_name) put_whole(&out, number_name, value);
    if (word_name) put_word(&out, word_name, word);
    bool leave = !strcmp(type, "bye");
    ask(&device, type, leave ? 0 : ++request_number, &body, NULL, 0, got);
    msgpack_sbuffer_destroy(&body);
}

static void call_only(const char *type, const char *number_name, uint64_t value) {
    message got;
    call(type, number_name, value, NULL, NULL, &got);
    release(&got);
}

/* The address that the kernel gave; the unit is dialled where it is another one than before. */
static void take_address(const msgpack_object *from, paste_address *address) {
    address->window_id = (uint32_t)whole(from, "window_id");
    bytes(from, "token", address->token, TOKEN_BYTES);
    text(field(from, "endpoints"), "local", address->endpoint, ENDPOINT_BYTES);
    if (!strcmp(unit.endpoint, address->endpoint)) return;
    strcpy(unit.endpoint, address->endpoint);
    dial(&unit);
}

/* A page fault: whether the page is mapped again. Otherwise the window has lost its credit, and the paste fails. */
static bool handle_fault(uint64_t mapping, paste_address *address) {
    char outcome[WORD_BYTES];
    message got;
    call("fault", "mapping", mapping, "instruction", "paste", &got);
    text(&got.body, "outcome", outcome, sizeof outcome);
    bool remapped = !strcmp(outcome, "remapped");
    if (remapped) take_address(field(&got.body, "address"), address);
    release(&got);
    return remapped;
}

/* Pastes. */

static void paste(const paste_address *address, const unsigned char *source, size_t length, message *got) {
    msgpack_sbuffer body;
    msgpack_packer out;
    msgpack_sbuffer_init(&body);
    msgpack_packer_init(&out, &body, msgpack_sbuffer_write);
    msgpack_pack_map(&out, 4);
    put_whole(&out, "window_id", address->window_id);
    put_bytes(&out, "token", address->token, TOKEN_BYTES);
    put_whole(&out, "number", ++paste_number);
    put_text(&out, "crb");
    msgpack_pack_map(&out, 2);
    put_whole(&out, "function", COMPRESS_DHT);
    put_whole(&out, "target_bytes", length + length / 4 + MARGIN_BYTES);
    ask(&unit, "paste", paste_number, &body, source, length, got);
    msgpack_sbuffer_destroy(&body);
}

static size_t write_nx_member(FILE *output, const message *done, size_t length) {
    const msgpack_object *csb = field(&done->body, "csb");
    uint32_t crc32 = (uint32_t)whole(csb, "crc32"), taken = (uint32_t)whole(csb, "processed_bytes");
    unsigned char trailer[8];
    for (int i = 0; i < 4; i++) trailer[i] = crc32 >> 8 * i, trailer[4 + i] = taken >> 8 * i;
    size_t end_bytes = taken < length ? 2 : 0; /* a suspended request ends without a last block */
    fwrite(GZIP_HEADER, 1, sizeof GZIP_HEADER, output);
    fwrite(zmq_msg_data((zmq_msg_t *)&done->bulk), 1, zmq_msg_size(&done->bulk), output);
    fwrite("\x03", 1, end_bytes, output);
    fwrite(trailer, 1, sizeof trailer, output);
    size_t around_bytes = sizeof GZIP_HEADER + end_bytes + sizeof trailer;
    printf("%u -> %zu bytes by nx\n", taken, zmq_msg_size(&done->bulk) + around_bytes);
    return taken;
}

static size_t write_zlib_member(FILE *output, unsigned char *source, size_t length, const char *reason) {
    z_stream stream = {.next_in = source, .avail_in = (uInt)length};
    if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        fail("zlib", "deflateInit2");
    uLong room = deflateBound(&stream, length);
    stream.next_out = malloc(room);
    stream.avail_out = (uInt)room;
    unsigned char *member = stream.next_out;
    if (!member || deflate(&stream, Z_FINISH) != Z_STREAM_END) fail("zlib", "deflate");
    fwrite(member, 1, stream.total_out, output);
    printf("%zu -> %lu bytes by zlib (%s)\n", length, stream.total_out, reason);
    deflateEnd(&stream);
    free(member);
    return length;
}

/* Write a gzip member of the source or of a first part of it; how much of it that is. */
static size_t compress_part(FILE *output, uint64_t mapping, paste_address *address, unsigned char *source,
                            size_t length) {
    const struct timespec pause = {.tv_nsec = 1000000};
    for (int64_t until_ms = now_ms() + PATIENCE_MS;; nanosleep(&pause, NULL)) {
        message got;
        paste(address, source, length, &got);
        bool completed = !strcmp(got.type, "paste_completed"), faulted = !strcmp(got.type, "paste_faulted");
        uint64_t code = completed ? whole(field(&got.body, "csb"), "code") : 0;
        bool good = completed && (code == CC_OK || code == CC_DATA_LENGTH || code == CC_TPBC_GREATER);
        size_t taken = good ? write_nx_member(output, &got, length) : 0;
        release(&got);
        if (good) return taken;
        if (completed) return write_zlib_member(output, source, length, "data");
        if (faulted && !handle_fault(mapping, address))
            return write_zlib_member(output, source, length, "window_suspended");
        if (now_ms() > until_ms) return write_zlib_member(output, source, length, "paste_busy");
    }
}

static void compress_file(const char *source, const char *target, size_t part_bytes, uint64_t mapping,
                          paste_address *address) {
    size_t length;
    unsigned char *part = malloc(part_bytes);
    FILE *input = fopen(source, "rb"), *output = fopen(target, "wb");
    if (!part || !input || !output) fail("input, output", "cannot be opened");
    while ((length = fread(part, 1, part_bytes, input)))
        for (size_t taken = 0; taken < length;)
            taken += compress_part(output, mapping, address, part + taken, length - taken);
    if (ferror(input) || fclose(output)) fail("input, output", "cannot be read or written");
    fclose(input);
    free(part);
}

int main(int count, char **words) {
    if (count != 4 || strlen(words[1]) >= ENDPOINT_BYTES) fail("usage", "compress_file DEVICE INPUT OUTPUT");
    setvbuf(stdout, NULL, _IOLBF, 0);
    context = zmq_ctx_new();
    strcpy(device.endpoint, words[1]);
    if (getrandom(incarnation, sizeof incarnation, 0) != sizeof incarnation) fail("getrandom", "too few bytes");
    dial(&device);

    char limit[WORD_BYTES];
    message got;
    call("read_file", NULL, 0, "path", LIMIT_FILE, &got);
    text(&got.body, "text", limit, sizeof limit);
    release(&got);
    call("open_device", NULL, 0, NULL, NULL, &got);
    uint64_t descriptor = whole(&got.body, "descriptor");
    release(&got);
    call_only("tx_win_open", "descriptor", descriptor);
    paste_address address;
    call("mmap", "descriptor", descriptor, NULL, NULL, &got);
    uint64_t mapping = whole(&got.body, "mapping");
    take_address(field(&got.body, "address"), &address);
    release(&got);
    puts("window open");

    compress_file(words[2], words[3], strtoul(limit, NULL, 10), mapping, &address);

    call_only("unmap", "mapping", mapping);
    call_only("close_descriptor", "descriptor", descriptor);
    call_only("bye", NULL, 0);
    zmq_close(unit.socket);
    zmq_close(device.socket);
    zmq_ctx_term(context);
    return 0;
}
