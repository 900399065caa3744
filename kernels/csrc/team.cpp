#define NK_ISA nk_plain
#include "team.h"

#include <sched.h>
#include <stdlib.h>

namespace nk {

// Some 20 µs between steps, and a few µs within: then others may have the core.
constexpr int PAUSES_BETWEEN_STEPS = 1 << 9, PAUSES_WITHIN = 1 << 7;

static void *run(void *argument) {
    Worker &worker = *static_cast<Worker *>(argument);
    Team &team = *worker.team;
    for (int64_t seen = 0;; ++seen) {
        for (int i = 0; i < PAUSES_BETWEEN_STEPS && __atomic_load_n(&team.round, __ATOMIC_ACQUIRE) == seen; ++i)
            __builtin_ia32_pause();
        if (__atomic_load_n(&team.round, __ATOMIC_ACQUIRE) == seen) {
            pthread_mutex_lock(&team.mutex);
            while (team.round == seen) pthread_cond_wait(&team.wake, &team.mutex);
            pthread_mutex_unlock(&team.mutex);
        }
        if (team.closing) return nullptr;
        team.work(team.argument, worker);
        meet(team);
    }
}

static void begin_round(Team &team) {
    pthread_mutex_lock(&team.mutex);
    __atomic_store_n(&team.round, team.round + 1, __ATOMIC_RELEASE);
    pthread_cond_broadcast(&team.wake);
    pthread_mutex_unlock(&team.mutex);
}

bool open(Team &team, int64_t size) {
    team.size = size;
    team.workers = static_cast<Worker *>(calloc(size_t(size), sizeof(Worker)));
    team.threads = static_cast<pthread_t *>(calloc(size_t(size), sizeof(pthread_t)));
    if (!team.workers || !team.threads) return false;
    for (int64_t i = 0; i < size; ++i) team.workers[i] = {&team, i, nullptr};
    for (int64_t i = 1; i < size; ++i, ++team.started)
        if (pthread_create(&team.threads[i], nullptr, run, &team.workers[i])) return false;
    return true;
}

void close(Team &team) {
    team.closing = true;
    if (team.started) begin_round(team);
    for (int64_t i = 1; i <= team.started; ++i) pthread_join(team.threads[i], nullptr);
    free(team.workers);
    free(team.threads);
}

void together(Team &team, Work work, void *argument) {
    team.work = work;
    team.argument = argument;
    if (team.size > 1) begin_round(team);
    work(argument, team.workers[0]);
    if (team.size > 1) meet(team);
}

void meet(Team &team) {
    int64_t phase = __atomic_load_n(&team.phase, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&team.arrived, 1, __ATOMIC_ACQ_REL) == team.size) {
        __atomic_store_n(&team.arrived, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team.next, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&team.phase, phase + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int i = 0; __atomic_load_n(&team.phase, __ATOMIC_ACQUIRE) == phase; ++i) {
        if (i < PAUSES_WITHIN) __builtin_ia32_pause();
        else sched_yield();
    }
}

}  // namespace nk
