// A chain of layers, forward, backward, and as a whole training step. Compiled once for each
// instruction set, under the name given by FBF_ISA; everything else in here is private to it.
#include "api.h"
#include "backward.h"
#include "forward.h"
#include "update.h"

namespace {

size_t workspace(const Chain* chain, int64_t count, int keep, int threads) {
    return static_cast<size_t>(make_plan(*chain, count, keep, threads).total) + 16;  // see aligned()
}

void forward(const Chain* chain, const Images* images, float* memory, int keep, int threads, float* out) {
    const Plan plan = make_plan(*chain, images->count, keep, threads);
    const Run run{plan, aligned(memory), threads};
    pack_weights(run, FORWARD);
    const Stage& last = plan.last();
    parallel(threads, plan.groups, [&](int group, int worker) {
        float* blocks = run.block(PAIR * (keep ? group : worker));
        gather_group(plan, *images, group, blocks);
        forward_group(run, group, blocks);
        for (int b = 0; b < plan.blocks_of(group); ++b) {
            const int number = group * PAIR + b;
            empty_block(blocks + b * plan.block_floats + last.out, last.out_values(), plan.images_of(number),
                        out + static_cast<ptrdiff_t>(number) * LANES * last.out_values());
        }
    });
}

void backward(const Chain* chain, int64_t count, float* memory, int threads, const float* out_grad,
              float* in_grad) {
    const Plan plan = make_plan(*chain, count, true, threads);
    const Run run{plan, aligned(memory), threads};
    pack_weights(run, BACKWARD);
    const int out_values = plan.last().out_values(), in_values = plan.stages[0].in_values();
    parallel(threads, plan.groups, [&](int group, int worker) {
        float* scratch = run.scratch(worker);
        for (int b = 0; b < plan.blocks_of(group); ++b) {
            const int number = group * PAIR + b, images = plan.images_of(number);
            float* grad = scratch + b * plan.gradient_floats;
            Floats from = {};
            for (int lane = 0; lane < LANES; ++lane)
                from.image[lane] = out_grad + (static_cast<ptrdiff_t>(number) * LANES + lane % images) * out_values;
            fill_lanes(from, 1, out_values, 0, grad);
            for (int v = 0; v < out_values; ++v)
                for (int lane = images; lane < LANES; ++lane) grad[v * LANES + lane] = 0.0f;
        }
        const float* grad = backward_group(run, group, scratch, in_grad != nullptr);
        if (in_grad)
            for (int b = 0; b < plan.blocks_of(group); ++b)
                empty_block(grad + b * plan.gradient_floats, in_values, plan.images_of(group * PAIR + b),
                            in_grad + static_cast<ptrdiff_t>(group * PAIR + b) * LANES * in_values);
    });
    weight_gradients(run);
}

void step(const Chain* chain, const Images* images, float* memory, int threads, Loss* loss) {
    const Plan plan = make_plan(*chain, images->count, true, threads);
    const Run run{plan, aligned(memory), threads};
    pack_weights(run, FORWARD | BACKWARD);
    parallel(threads, plan.groups, [&](int group, int worker) {
        float* blocks = run.block(group * PAIR);
        float* scratch = run.scratch(worker);
        run.put_sums(group, evaluate_group(run, *images, group, blocks, *loss, scratch));
        backward_group(run, group, scratch, false);
    });
    weight_gradients(run);
    add_up_groups(run, *loss);
}

void evaluate(const Chain* chain, const Images* images, float* memory, int threads, Loss* loss) {
    const Plan plan = make_plan(*chain, images->count, false, threads);
    const Run run{plan, aligned(memory), threads};
    pack_weights(run, FORWARD);
    parallel(threads, plan.groups, [&](int group, int worker) {
        run.put_sums(group, evaluate_group(run, *images, group, run.block(PAIR * worker), *loss, nullptr));
    });
    add_up_groups(run, *loss);
}

void update(const Parameter* parameters, int32_t count, int threads, const Update* rule) {
    int64_t tasks = 0;
    for (int i = 0; i < count; ++i) tasks += (parameters[i].size + STRETCH - 1) / STRETCH;
    parallel(threads, static_cast<int>(tasks), [&](int task, int) {
        const Parameter* p = parameters;
        int64_t first = static_cast<int64_t>(task) * STRETCH;
        for (; first >= (p->size + STRETCH - 1) / STRETCH * STRETCH; ++p)
            first -= (p->size + STRETCH - 1) / STRETCH * STRETCH;
        const int64_t size = p->size - first < STRETCH ? p->size - first : STRETCH;
        if (rule->adam) adam(p->value + first, p->grad + first, p->first_moment + first, p->second_moment + first, size, *rule);
        else sgd(p->value + first, p->grad + first, size, *rule);
    });
}

void activate_all(int32_t kind, float* values, int64_t count) {
    activate(kind, values, static_cast<int>(count / LANES));
}

}  // namespace

#define NAME_(isa) kernels_##isa
#define NAME(isa) NAME_(isa)
#define TEXT_(isa) #isa
#define TEXT(isa) TEXT_(isa)
#define CHANNELS_LAST_(isa) channels_last_##isa
#define CHANNELS_LAST(isa) CHANNELS_LAST_(isa)
extern const ChannelsLast CHANNELS_LAST(FBF_ISA);
extern const Kernels NAME(FBF_ISA);
const Kernels NAME(FBF_ISA) = {TEXT(FBF_ISA), LANES,    workspace, forward,      backward,
                               step,          evaluate, update,    activate_all, &CHANNELS_LAST(FBF_ISA)};
