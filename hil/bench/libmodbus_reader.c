/* Reads what stdin asks for, through libmodbus: reader tcp PORT | reader rtu PATH BAUD.
 * A line in is "UNIT TABLE ADDRESS COUNT" (tables: coil, discrete, input, holding); a line out is the values, or "!" and
 * why there are none. */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int read_bits(modbus_t *context, int inputs, int address, int count)
{
    uint8_t bits[MODBUS_MAX_READ_BITS];
    int got = inputs ? modbus_read_input_bits(context, address, count, bits)
                     : modbus_read_bits(context, address, count, bits);
    for (int at = 0; at < got; at++)
        printf("%d ", bits[at]);
    return got;
}

static int read_words(modbus_t *context, int inputs, int address, int count)
{
    uint16_t words[MODBUS_MAX_READ_REGISTERS];
    int got = inputs ? modbus_read_input_registers(context, address, count, words)
                     : modbus_read_registers(context, address, count, words);
    for (int at = 0; at < got; at++)
        printf("%d ", words[at]);
    return got;
}

int main(int argc, char **argv)
{
    modbus_t *context = NULL;
    if (argc == 3 && strcmp(argv[1], "tcp") == 0)
        context = modbus_new_tcp("127.0.0.1", atoi(argv[2]));
    else if (argc == 4 && strcmp(argv[1], "rtu") == 0)
        context = modbus_new_rtu(argv[2], atoi(argv[3]), 'N', 8, 2);
    if (context == NULL)
        return 2;
    modbus_set_response_timeout(context, 2, 0);
    if (modbus_connect(context) < 0)
        return 1;
    int unit, address, count;
    char table[16];
    while (scanf("%d %15s %d %d", &unit, table, &address, &count) == 4) {
        int inputs = strcmp(table, "discrete") == 0 || strcmp(table, "input") == 0;
        int bits = strcmp(table, "coil") == 0 || strcmp(table, "discrete") == 0;
        modbus_set_slave(context, unit);
        if ((bits ? read_bits : read_words)(context, inputs, address, count) < 0)
            printf("! %s", modbus_strerror(errno));
        printf("\n");
        fflush(stdout);
    }
    modbus_close(context);
    modbus_free(context);
    return 0;
}
