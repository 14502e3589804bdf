/* Stands in for the driver's libraries libnvcuvid and libnvidia-ml. It answers as the card that the
 * test describes, and it records the questions. The struct is that of NVIDIA's own header. */
#include <cuviddec.h>
#include <string.h>

#define MAX_ROWS 64

typedef struct {
    int codec, chroma, bits;
    int num_decoders, formats;
    int min_width, min_height, max_width, max_height, max_macroblocks;
} Answer;

static Answer answers[MAX_ROWS];
static int num_answers, questions[MAX_ROWS][3], num_questions, status;

void stub_clear(void) { num_answers = num_questions = status = 0; }
void stub_add(const Answer *answer) { answers[num_answers++] = *answer; }
void stub_fail(int with) { status = with; }
int stub_num_questions(void) { return num_questions; }
const int *stub_question(int n) { return questions[n]; }

CUresult cuvidGetDecoderCaps(CUVIDDECODECAPS *caps) {
    int asked[3] = {caps->eCodecType, caps->eChromaFormat, (int)caps->nBitDepthMinus8 + 8};
    memcpy(questions[num_questions++ % MAX_ROWS], asked, sizeof asked);
    caps->bIsSupported = 0;
    for (int n = 0; n < num_answers; n++) {
        const Answer *answer = &answers[n];
        if (answer->codec != asked[0] || answer->chroma != asked[1] || answer->bits != asked[2])
            continue;
        caps->bIsSupported = 1;
        caps->nNumNVDECs = answer->num_decoders;
        caps->nOutputFormatMask = answer->formats;
        caps->nMinWidth = answer->min_width;
        caps->nMinHeight = answer->min_height;
        caps->nMaxWidth = answer->max_width;
        caps->nMaxHeight = answer->max_height;
        caps->nMaxMBCount = answer->max_macroblocks;
    }
    return status;
}

/* NVML, by its public documentation. */
typedef struct { unsigned int gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;

static const char *uuid = "GPU-stub";
static int card;

int nvmlInit_v2(void) { return status; }
int nvmlDeviceGetHandleByUUID(const char *wanted, void **handle) {
    *handle = &card;
    return strcmp(wanted, uuid) ? 6 : 0; /* NVML_ERROR_NOT_FOUND */
}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) {
    strncpy(text, "580.65.06", length);
    return 0;
}
int nvmlDeviceGetDecoderUtilization(void *handle, unsigned int *percent, unsigned int *period_us) {
    *percent = 83, *period_us = 20000;
    return handle == &card ? 0 : 2; /* NVML_ERROR_INVALID_ARGUMENT */
}
int nvmlDeviceGetUtilizationRates(void *handle, Utilization *found) {
    found->gpu = 41, found->memory = 17;
    return handle == &card ? 0 : 2;
}
int nvmlDeviceGetMemoryInfo(void *handle, Memory *found) {
    found->total = 80ull << 30, found->used = 5ull << 30, found->free = 75ull << 30;
    return handle == &card ? 0 : 2;
}
