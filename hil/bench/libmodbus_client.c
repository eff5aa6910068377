/* Sequential 100-word reads through libmodbus: client PORT SECONDS; prints reads a second. */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    if (context == NULL || modbus_set_slave(context, 1) < 0 || modbus_connect(context) < 0)
        return 1;
    uint16_t words[100];
    long reads = 0;
    double begun = now(), end = begun + atof(argv[2]);
    while (now() < end) {
        if (modbus_read_registers(context, 0, 100, words) != 100)
            return 1;
        reads++;
    }
    printf("%.1f\n", reads / (now() - begun));
    return 0;
}
