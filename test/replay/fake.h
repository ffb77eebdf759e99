/*
 * Time and chance under the test's control. The program's own definitions of
 * clock_gettime() and arc4random() stand in for those of libc, for the code
 * under test and for libevent alike; so timers run on the same time.
 */
#ifndef PGSLUICE_TEST_FAKE_H
#define PGSLUICE_TEST_FAKE_H

#include "core/base.h"

/* Makes every clock show some fixed time, and begins the random numbers anew. */
void fake_reset(uint64_t seed);

/* Clocks show the real time again, until the next reset: for who drives the test from outside. */
void fake_stop(void);

/* Moves all clocks on. */
void fake_advance(uint64_t us);

/* Microseconds of every clock now. */
uint64_t fake_now_us(void);

/* The next random number of the sequence, less than `limit`. */
unsigned fake_random(unsigned limit);

#endif
