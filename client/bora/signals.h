/* Ctrl-C and its kin, noted by a handler and asked for by the program. */
#ifndef BORA_BORA_SIGNALS_H
#define BORA_BORA_SIGNALS_H

#include <stdbool.h>

#include <bora/client.h>

/* From now on Ctrl-C interrupts what this client waits for instead of ending the program. The client has to outlive
 * that: bora_signals_release before it is closed. */
void bora_signals_catch_interrupt(bora_client *client);
/* So do the signals that ask the program to end (bora_signals_ending), and a terminal that changed is noted. */
void bora_signals_catch_all(bora_client *client);
/* Everything as before. */
void bora_signals_release(void);
/* Waits until there is something to read; false if one of the caught signals came, before or meanwhile: none slips
 * through between looking and waiting. */
bool bora_signals_wait_input(int fd);
/* The same for at most timeout_ms: 1, there is something to read; 0, the time is over; -1, a signal came. */
int bora_signals_wait(int fd, int timeout_ms);

/* True if Ctrl-C came since the last call; it is then forgotten, by the client too. */
bool bora_signals_take_interrupt(void);
/* The same without forgetting. */
bool bora_signals_has_interrupt(void);
/* The signal that asked the program to end; 0: none. */
int bora_signals_ending(void);
/* True if the terminal has another size, or the program was stopped and goes on, since the last call. */
bool bora_signals_take_resize(void);
bool bora_signals_take_continue(void);

#endif
