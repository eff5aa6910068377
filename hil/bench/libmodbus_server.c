/* A libmodbus TCP server for many connections, after its own tests/bandwidth-server-many-up.c: server PORT */
#include <errno.h>
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/select.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    modbus_t *context = modbus_new_tcp("127.0.0.1", atoi(argv[1]));
    modbus_mapping_t *map = modbus_mapping_new(2000, 2000, 2000, 2000);
    if (context == NULL || map == NULL)
        return 1;
    for (int at = 0; at < 2000; at++) {
        map->tab_registers[at] = map->tab_input_registers[at] = (uint16_t) (at * 40503u + 1 * 7919u + 1);
        map->tab_bits[at] = map->tab_input_bits[at] = at % 3 == 0;
    }
    int listening = modbus_tcp_listen(context, 64);
    if (listening < 0)
        return 1;
    fd_set known;
    FD_ZERO(&known);
    FD_SET(listening, &known);
    int highest = listening;
    for (;;) {
        fd_set ready = known;
        if (select(highest + 1, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd <= highest; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == listening) {
                int fresh = modbus_tcp_accept(context, &listening);
                if (fresh >= 0) {
                    FD_SET(fresh, &known);
                    highest = fresh > highest ? fresh : highest;
                }
                continue;
            }
            uint8_t query[MODBUS_TCP_MAX_ADU_LENGTH];
            modbus_set_socket(context, fd);
            int length = modbus_receive(context, query);
            if (length > 0)
                modbus_reply(context, query, length, map);
            else if (length < 0) {
                close(fd);
                FD_CLR(fd, &known);
            }
        }
    }
}
