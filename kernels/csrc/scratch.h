// What one thread needs beside the rows: parts of a Mamba group or of an attention head.
#pragma once
#include "plan.h"

namespace NK_ISA {

constexpr int64_t LINE = 64;

// Hands out memory piece by piece; with no memory it only counts.
struct Pieces {
    char *base;
    int64_t used = 0;

    template <class T> T *take(int64_t count) {
        char *here = base + used;
        used += (count * int64_t(sizeof(T)) + LINE - 1) / LINE * LINE;
        return reinterpret_cast<T *>(here);
    }
};

struct MambaScratch {
    float *C, *scores, *weights, *carried, *y, *state;
    const float **C_rows;
    uint8_t *hidden;

    MambaScratch(Pieces pieces, const NkModel &m, int64_t count) {
        int64_t of_group = m.groups ? m.heads / m.groups * m.head_dim : 0;
        C = pieces.take<float>(count * m.state_size);
        scores = pieces.take<float>(count * m.ring);
        weights = pieces.take<float>(m.ring);
        carried = pieces.take<float>(count * m.head_dim);
        y = pieces.take<float>(count * of_group);
        state = pieces.take<float>(m.head_dim * m.state_size + LINE);
        C_rows = pieces.take<const float *>(count);
        hidden = pieces.take<uint8_t>(count * m.ring);
        bytes = pieces.used;
    }
    int64_t bytes;
};

struct AttentionScratch {
    float *scores, *most, *total, *out, *queries, *keys, *values;
    const float **rows;
    int64_t scores_stride, bytes;

    AttentionScratch(Pieces pieces, const NkModel &m, int64_t count) {
        int64_t queries_of_head = m.kv_heads ? m.query_heads / m.kv_heads * count : 0;
        scores_stride = (m.page_tokens + LINE - 1) / LINE * LINE;
        scores = pieces.take<float>(queries_of_head * scores_stride);
        most = pieces.take<float>(queries_of_head);
        total = pieces.take<float>(queries_of_head);
        out = pieces.take<float>(queries_of_head * m.attention_dim);
        queries = pieces.take<float>(queries_of_head * m.attention_dim);
        keys = pieces.take<float>(m.page_tokens * m.attention_dim);
        values = pieces.take<float>(m.page_tokens * m.attention_dim);
        rows = pieces.take<const float *>(queries_of_head);
        bytes = pieces.used;
    }
};

}  // namespace NK_ISA
