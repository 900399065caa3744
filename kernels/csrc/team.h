// A few threads that go through a step together, item by item.
#pragma once
#include <pthread.h>
#include <stdint.h>

namespace nk {

struct Team;

struct Worker {
    Team *team;
    int64_t number;
    char *scratch;
};

using Work = void (*)(void *argument, Worker &worker);

struct Team {
    int64_t size = 1;
    Worker *workers = nullptr;
    pthread_t *threads = nullptr;
    int64_t started = 0;
    Work work = nullptr;
    void *argument = nullptr;
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
    bool closing = false;
    alignas(64) int64_t round = 0;    // how many times there was work
    alignas(64) int64_t next = 0;     // the item to be taken next
    alignas(64) int64_t arrived = 0;  // threads that found no item any more
    alignas(64) int64_t phase = 0;    // how many times all of them did
};

// False where the system refuses threads; close it all the same.
bool open(Team &team, int64_t size);
void close(Team &team);
// Run `work` on every thread, the caller's among them, until all are through.
void together(Team &team, Work work, void *argument);
// Wait for all threads; the last one to come empties the list of items.
void meet(Team &team);

}  // namespace nk

namespace NK_ISA {

// f(i) once for each of `count` items, on whichever thread is free; returns when all are done.
template <class F> inline void each(nk::Worker &worker, int64_t count, F f) {
    nk::Team &team = *worker.team;
    if (team.size == 1) {
        for (int64_t i = 0; i < count; ++i) f(i);
        return;
    }
    for (int64_t i; (i = __atomic_fetch_add(&team.next, 1, __ATOMIC_RELAXED)) < count;) f(i);
    nk::meet(team);
}

}  // namespace NK_ISA
